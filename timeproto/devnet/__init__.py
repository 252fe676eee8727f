"""A network of masternodes on one machine, each its own ``twistd timenode`` process: for demos, benches, wallet authors."""
