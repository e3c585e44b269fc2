"""What scripts/bench is made of.

`rows`: what is measured, and the targets. `processes`: the server, the load tool, and running them. `machine`: where it
ran. `report`: medians, the table, the file of figures.
"""
