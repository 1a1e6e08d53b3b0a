"""Small projects in other fields, and own_net, a net for the study here."""
