"""Publishing: assembles the points of a release from the results of the stages."""
