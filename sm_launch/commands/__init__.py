"""One file a command of `sm-launch`."""
