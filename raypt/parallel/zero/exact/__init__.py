"""A step whose bits do not depend on the number of workers, nor on what ZeRO cuts over them (`train.reduction`)."""
