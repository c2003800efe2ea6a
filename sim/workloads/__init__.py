"""What clients ask and when: trace files, generators, sessions, and cuts of them.

A workload is a stream of dated arrivals that can be read from its beginning any
number of times and is the same each time. It never lies in memory whole.
"""
