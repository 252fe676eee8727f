"""What must survive a power cut, behind the seam of model.ledger. Blocking: the node calls it from a thread."""
