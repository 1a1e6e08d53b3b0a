"""Images from disk to batches on the device: read, hold out, preprocess, augment."""
