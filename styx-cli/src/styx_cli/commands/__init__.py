"""One module per verb; each holds a Typer app called `app` and is imported when its verb is called."""
