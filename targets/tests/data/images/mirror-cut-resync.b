pat 0 16
pat 20000 8
pat 24 1384
zero 2688
