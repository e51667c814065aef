"""An evaluation as a job: of an endpoint or of an artefact on this machine, and two compared."""
