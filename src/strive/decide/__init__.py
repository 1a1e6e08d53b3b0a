"""What is launched next, decided from records: a sweep with the parents that its values are chosen from."""
