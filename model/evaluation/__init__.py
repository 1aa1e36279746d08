"""The error of a model beside simple forecasts; pictures and the model card."""
