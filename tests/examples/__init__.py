"""Two more databases to project, unlike the helpdesk, each with its oracle and random history."""
