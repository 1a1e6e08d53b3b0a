"""From records to conditions and the answer, with every hole said."""
