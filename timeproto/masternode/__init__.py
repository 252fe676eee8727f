"""The node, assembled: configuration, the bridge between network and consensus, the twistd application."""
