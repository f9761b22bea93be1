"""Whether the files of a model are what they should be, found out before any library is given them. No torch.

A model may come from anybody. Each check bounds what it reads, and says in a ModelError what is wrong and where.
"""
