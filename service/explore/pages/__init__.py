"""The pages of `nextsong explore`, and the parts that they consist of."""
