"""Who may do what: access, the log of grants, and the keys that the owner creates and revokes."""
