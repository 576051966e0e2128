"""Work on the machines of a Ray cluster, or by Ray on this one; nothing here is loaded unless `executor=ray`."""
