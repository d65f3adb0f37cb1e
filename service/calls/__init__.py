"""What a call is: its record, its statuses, and which facts a message gives. Pure."""
