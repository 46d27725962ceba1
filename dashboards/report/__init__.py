"""`orch report`: an experiment as one folder of static pages that open without a server."""
