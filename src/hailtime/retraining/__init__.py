"""It keeps itself right: decide, take a window of the log, train, judge, gate, roll out, watch. docs/retraining.md"""
