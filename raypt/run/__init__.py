"""The roof: the one configuration, and what joins the rooms into a job."""
