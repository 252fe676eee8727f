"""A network of masternodes on one machine, each its own ``twistd timenode`` process."""
