"""The pages of `nextsong explore`, and the elements that they consist of."""
