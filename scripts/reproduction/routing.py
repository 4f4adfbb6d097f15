"""What `strand analyse` found in the runs of a campaign: a summary a run, and the tables of the page."""
import student
from tables import number, plain, rounded, table


def mean(values):
    return student.mean(list(values))


def summary(analysis, stages, clusters=None):
    """A few numbers a run of an analysis.json. Means over layers, or one number for each pair of neighbouring layers."""
    def mean_of(values):
        return rounded(mean(values))

    models = {model["step"]: model for model in analysis["models"]}
    pairs_of_steps = {tuple(entry["steps"]): entry for entry in analysis["stability"]}
    found = []
    for first, second in stages:
        model, stable = models[second], pairs_of_steps[first, second]
        couplings = model["coupling"]["pairs"]
        found.append({
            "steps": [first, second],
            "stability": {name: mean_of(stable[name]) for name in ("top_1", "top_k", "set")},
            "kappa": [rounded(pair["kappa"]) for pair in couplings],
            "kappa_excess": [rounded(pair["excess"]) for pair in couplings],
            "token_entropy": mean_of(model["sharpness"]["token_entropy"]),
            "top_k_mass": mean_of(model["sharpness"]["top_k"]),
            "max_violation": mean_of(model["load"]["max_violation"]),
            "squared_cosine_z": mean_of(model["overlap"]["z"]["mean_squared_cosine"]),
            "squared_cosine_y": mean_of(model["overlap"]["y"]["mean_squared_cosine"]),
        })
    last = models[stages[-1][1]]
    placement = [{"ranks": entry["ranks"], "round_robin": entry["round_robin"], "placed": entry["placed"]}
                 for entry in last["placement"]]
    text = {"stages": found, "placement": placement}
    if clusters:
        text["clusters"] = clusters["models"][0]["clusters"]
    return text


# ---- tables -----------------------------------------------------------------------------------------------------------


def paired(found, arm, base, value):
    """Differences of `value(routing)` between two arms, seed by seed."""
    seeds = sorted(set(found.get(arm, {})) & set(found.get(base, {})))
    return [value(found[arm][s]["routing"]) - value(found[base][s]["routing"]) for s in seeds]


def difference(values, digits=4):
    if len(values) < 2:
        return "–"
    row = student.interval(values)
    return f"{number(row.mean, digits)} ({number(row.low, digits)} to {number(row.high, digits)})"


def stability_table(found, arms):
    """Table 10 of the paper: the share of tokens whose first expert is the same in two checkpoints."""
    base = arms[0]
    stages = next(iter(found[base].values()))["routing"]["stages"]
    rows = []
    for arm in arms:
        if len(found.get(arm, {})) < 2:
            continue
        rows.append([f"`{arm}`", *(plain(mean(r["routing"]["stages"][i]["stability"]["top_1"] for r in found[arm].values()))
                                   for i in range(len(stages)))])
    for arm in arms[1:]:
        rows.append([f"`{arm}` − `{base}`", *(difference(paired(found, arm, base, lambda r, i=i: r["stages"][i]["stability"]["top_1"]))
                                              for i in range(len(stages)))])
    return table(["arm", *(f"steps {a} to {b}" for a, b in (stage["steps"] for stage in stages))], rows)


def sharpness_table(found, arms):
    """At the end of training: what the theory says becomes lower or higher."""
    base = arms[0]
    whats = (("token entropy / ln E", lambda s: s["token_entropy"]), ("mass of the top-K", lambda s: s["top_k_mass"]),
             ("κ, mean of the pairs", lambda s: mean(s["kappa"])), ("cos² of z", lambda s: s["squared_cosine_z"]),
             ("cos² of outputs y", lambda s: s["squared_cosine_y"]), ("MaxVio", lambda s: s["max_violation"]))
    rows = []
    for name, value in whats:
        row = [name, plain(mean(value(r["routing"]["stages"][-1]) for r in found[base].values()))]
        row += [difference(paired(found, arm, base, lambda r, value=value: value(r["stages"][-1]))) for arm in arms[1:]]
        rows.append(row)
    return table(["at the end of training", f"`{base}`", *(f"`{arm}` − `{base}`" for arm in arms[1:])], rows)


def depth_table(found, arms):
    """Figure 8: κ of each pair of neighbouring layers, beyond what independent choices have."""
    pairs = len(next(iter(found[arms[0]].values()))["routing"]["stages"][-1]["kappa_excess"])
    rows = []
    for arm in arms:
        if len(found.get(arm, {})) < 2:
            continue
        values = [r["routing"]["stages"][-1]["kappa_excess"] for r in found[arm].values()]
        rising = sum(v == sorted(v) for v in values)
        rows.append([f"`{arm}`", *(plain(mean(v[i] for v in values)) for i in range(pairs)), f"{rising} of {len(values)}"])
    return table(["κ in excess", *(f"layers {i} → {i + 1}" for i in range(pairs)), "runs in which it rises with depth"], rows)


def placement_table(found, arms):
    """Table 13 by counts: how many of a token's transitions between layers stay on a rank."""
    base, rows = arms[0], []
    for i, entry in enumerate(next(iter(found[base].values()))["routing"]["placement"]):
        def gain(r, i=i):
            return r["placement"][i]["placed"]["path"] - r["placement"][i]["round_robin"]["path"]

        row = [str(entry["ranks"]), plain(mean(r["routing"]["placement"][i]["round_robin"]["path"] for r in found[base].values())),
               plain(mean(r["routing"]["placement"][i]["placed"]["path"] for r in found[base].values()))]
        rows.append(row + [difference(paired(found, arm, base, gain)) for arm in arms[1:]])
    return table(["ranks", f"`{base}`, round-robin", f"`{base}`, placed", *(f"gain of `{arm}` − gain of `{base}`" for arm in arms[1:])],
                 rows)


def cluster_table(found, arm):
    """Figure 7: tokens whose cluster agrees with that of the next layer."""
    runs = [r["routing"]["clusters"] for r in found[arm].values()]
    rows = []
    for i, pair in enumerate(runs[0]["pairs"]):
        rows.append([f"{pair['lower']} → {pair['upper']}",
                     *(plain(mean(run["pairs"][i][name] for run in runs)) for name in ("balanced", "unbalanced", "router")),
                     plain(runs[0]["uniform"]), f"{sum(run['pairs'][i]['balanced'] > run['uniform'] for run in runs)} of {len(runs)}"])
    return table(["layers", "balanced clusters", "clusters as found", "κ of the router", "chance", "runs above chance"], rows)


def section(found, arms, clusters):
    """Of an experiment whose runs were analysed; empty with fewer than two runs of its first arm."""
    if len(found.get(arms[0], {})) < 2:
        return ""
    if clusters:
        return "Share of tokens; means over runs.\n\n" + cluster_table(found, arms[0])
    return "\n\n".join([
        "**Table 10**: the share of held-out tokens whose first expert is the same in two checkpoints, mean over layers; below it "
        "paired differences with their 95 % intervals. The learning rate falls in all arms alike.", stability_table(found, arms),
        "**Sharper and more coupled?** Paired differences with 95 % intervals.", sharpness_table(found, arms),
        "**Figure 8**: κ in excess of independent choices, (κ − κ⁰)/(1 − κ⁰), at the end of training.", depth_table(found, arms),
        "**Table 13 by counts**: the share of a token's transitions from layer to layer that stay on a rank, experts dealt out in turn "
        "or placed by `strand analyse`.", placement_table(found, arms)])
