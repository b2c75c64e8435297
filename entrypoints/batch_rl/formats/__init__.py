"""File formats of logged episodes, and finding the dataset of a folder whatever its format."""
