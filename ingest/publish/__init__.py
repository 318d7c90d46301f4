"""From the results of the stages to the points of a release."""
