"""A campaign of faults: every stage is killed, starved, fed with what is not what was written, and looked at afterwards."""
