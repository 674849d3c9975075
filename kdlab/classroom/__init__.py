"""What turns scripts into notebooks and notebooks into marks. It imports nothing of the training part."""
