"""What every figure means: one place, shown with every table, report and file."""

DEFINITIONS: dict[str, str] = {
    "TTFT": "time to first token: arrival at the gateway to the first token at the client, "
    "queueing included",
    "TPOT": "time per output token: (last − first) / (tokens − 1), one number per request of at "
    "least two tokens; the TTFT is no part of it",
    "ITL": "inter-token latency: every gap between two tokens of a request, each gap counted; "
    "tokens that come together have gaps of 0; percentiles to within 0.1 %",
    "E2E": "arrival at the gateway to the last token at the client",
    "percentile": "nearest rank, over completed requests",
    "completed": "all its tokens came, and its client was there to the end",
    "rejected": "refused for overload; counts as an SLO missed",
    "failed": "ended with another error; counts as an SLO missed",
    "cancelled": "its client hung up; counts for nothing",
    "SLO met": "the request completed, its TTFT is within the bound, and so is its TPOT if it has "
    "one",
    "SLO attainment": "requests that met the SLO / all but the cancelled ones",
    "goodput": "requests that met the SLO per second of the run, from first arrival to last token",
    "queue": "stage of the TTFT: arrival at the gateway until the controller sends the request to "
    "a worker",
    "fetch": "stage of the TTFT: of the wait at the worker, what passed while a cached prefix came "
    "from a peer",
    "wait": "stage of the TTFT: the rest of the time until an iteration begins that computes part "
    "of the prompt; the message to the worker included",
    "prefill": "stage of the TTFT: that iteration's begin until the end of the one that draws the "
    "first token",
    "delivery": "stage of the TTFT: from there to the client",
    "transfer": "of requests that changed workers: wall time of their handoffs and migrations, "
    "from asking for room to the commit; most of it passes while the source computes",
    "exposed transfer": "of these, the part in which no worker computed the request; it delays "
    "tokens after the first one, and no TTFT",
    "utilisation": "share of the time in which a worker runs an iteration",
    "KV occupancy": "blocks held by requests or leased to moves / all blocks; cached blocks that "
    "may be evicted are not counted",
    "batch": "requests that own blocks on a worker and run",
    "preemption": "a running request loses its blocks to another and is computed again",
    "hit": "prompt tokens found in a prefix cache / all prompt tokens",
    "$/h": "price of all GPUs of the fleet, from the hardware catalogue",
    "$ per million tokens": "price of the run / million output tokens of completed requests",
    "W": "mean power of all workers: each iteration by its phase, idle power between them; GPUs "
    "alone, without the rest of their machines",
    "J per token": "energy of the run / prompt and output tokens of completed requests",
}


def said(*names: str) -> str:
    """The definitions of some figures, one a line."""
    return "\n".join(f"{name}: {DEFINITIONS[name]}." for name in names)
