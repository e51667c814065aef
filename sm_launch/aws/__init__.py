"""AWS itself: clients, how its errors read, the causes of failed jobs, listing to the end."""
