"""From a model artefact to something that answers."""
