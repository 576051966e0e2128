"""What a run says while it works: lines, bars, and state files to watch from another terminal."""
