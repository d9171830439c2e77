"""Files of a run on the disk, and how it is watched."""
