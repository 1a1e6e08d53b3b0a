"""Aggregation of records into conditions of a table and an answer, with all missing data reported."""
