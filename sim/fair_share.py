"""Max-min fair rates: nobody can have more without taking from somebody who has less.

Progressive filling (Bertsekas & Gallager, Data Networks, 6.5.2): all rates rise together
until a port is full; whoever crosses it keeps that rate, the others rise on.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

Port = TypeVar("Port")


def fair_rates(flows: Sequence[Sequence[Port]], capacity: Mapping[Port, float]) -> list[float]:
    """The rate of each flow, given the ports that it crosses. Every port has a capacity > 0."""
    rates = [0.0] * len(flows)
    left = dict(capacity)
    crossing: dict[Port, list[int]] = {port: [] for port in capacity}
    for index, ports in enumerate(flows):
        for port in ports:
            crossing[port].append(index)
    rising = dict.fromkeys(range(len(flows)))
    while rising:
        waiting = {port: [n for n in crossing[port] if n in rising] for port in crossing}
        fullest = min(
            (port for port in waiting if waiting[port]),
            key=lambda port: left[port] / len(waiting[port]),
        )
        rate = left[fullest] / len(waiting[fullest])
        for index in waiting[fullest]:
            rates[index] = rate
            del rising[index]
            for port in flows[index]:
                left[port] = max(0.0, left[port] - rate)
    return rates
