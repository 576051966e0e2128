"""Why two runs do not give one number: what is different between them, and what each of it moves."""
