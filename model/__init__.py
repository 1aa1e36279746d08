"""Trains, evaluates and exports deep recurrent networks. Never imports `app`."""
