package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// plan is a step of growth.
type plan struct {
	name      string
	postgres  bool
	databases int     // each with nodes of its own
	nodes     int     // of a database
	cores     int     // of a node, and of a database server
	disk      float64 // GB, of a node or a database server
	bucket    bool    // blobs are elsewhere
	merged    bool    // one numbering over all databases
	entryway  bool    // sessions are made by a server of their own
	accounts  float64
}

var plans = []plan{
	{name: "1. one node, sqlite, 2 cores", databases: 1, nodes: 1, cores: 2, disk: 100, accounts: 1_000},
	{name: "2. one node, sqlite, 16 cores, S3", databases: 1, nodes: 1, cores: 16, disk: 4000, bucket: true, accounts: 500_000},
	{name: "3. one PostgreSQL, 4 nodes", postgres: true, databases: 1, nodes: 4, cores: 16, disk: 4000, bucket: true, accounts: 2_000_000},
	{name: "4. 4 databases, 16 nodes, merged", postgres: true, databases: 4, nodes: 4, cores: 16, disk: 4000, bucket: true, merged: true, accounts: 5_000_000},
	{name: "5. entryway, 16 hosts as 2.", databases: 16, nodes: 1, cores: 16, disk: 4000, bucket: true, entryway: true, accounts: 10_000_000},
}

// use is how full a resource is: 1 is all of it.
type use struct {
	what string
	part float64
}

// outcome is a row of the table.
type outcome struct {
	plan
	rate      float64 // commits a second, at the peak
	fullest   use
	p50, p99  float64 // seconds
	memory    float64 // bytes of a node
	growth    float64 // bytes of databases a month, all together
	log       float64 // bytes of events that are kept
	blobs     float64 // bytes a month
	egress    float64 // bits a second for subscribers, at the peak, all together
	processes []class
	uses      []use
	groups    groups
	cold      float64 // how likely a commit finds its tree in no cache
	rebuild   float64 // seconds
}

const (
	day = 86400.0
	us  = 1e-6
	ms  = 1e-3
)

// evaluate computes all but latencies.
func evaluate(p plan, v values) outcome {
	all := float64(p.databases * p.nodes)
	perDay := p.accounts / day * v["peak"]
	o := outcome{plan: p, rate: perDay * v["commits"]}
	node := o.rate / all                    // commits
	shared := o.rate / float64(p.databases) // of a database
	refresh, login := perDay*v["refreshes"], perDay*v["logins"]
	if !p.entryway {
		refresh, login = refresh/all, login/all
	}
	mine := func(x float64) float64 { // what is done where the accounts are
		if p.entryway {
			return 0
		}
		return x
	}
	steps := node + mine(refresh)

	// Trees that are not cached are read again.
	held := v["cache"] * (1 << 20) / (v["tree"] * v["records"])
	o.cold = max(0, 1-held/(p.accounts/all))
	o.rebuild = v["cold"] * us * v["records"]
	if p.postgres {
		o.rebuild *= v["pg-cold"]
	}

	// Where subscribers are served: by the nodes, or behind the merged numbering.
	frames := shared * v["subscribers"] / float64(p.nodes)
	if p.merged {
		frames = 0
	}
	o.processes = []class{
		{steps, v["write"] * us},
		{node * o.cold, o.rebuild},
		{node * v["reads"], v["read"] * us},
		{node * v["lists"], v["list"] * us},
		{node * v["calls"], v["proxied"] * us},
		{mine(login), v["login"] * ms},
		{frames, v["frame"] * us},
	}
	if p.postgres {
		o.processes = append(o.processes, class{shared, v["pg-event"] * us})
	}
	o.uses = append(o.uses, use{"processors", work(o.processes) / float64(p.cores)})

	most := v["group"]
	o.growth = p.accounts * v["commits"] * 30 * v["record-bytes"]
	o.log = p.accounts * v["commits"] * v["keep"] * v["event-bytes"]
	o.blobs = p.accounts * v["blobs"] * v["blob-size"] * 1e3
	year := 12*o.growth + o.log
	if !p.bucket {
		year += 12 * o.blobs
	}
	o.uses = append(o.uses, use{"disk, in 12 months", year / float64(p.databases) / (p.disk * 1e9)})

	if p.postgres {
		stored := class{float64(p.nodes) * steps, v["pg-write"] * us}
		read := class{shared * (v["reads"] + v["lists"] + o.cold), v["pg-read"] * us}
		busy := work([]class{stored, read}) / float64(p.cores)
		slower := 1 / max(1-busy, 1e-9)
		o.groups = groups{nodes: p.nodes, rate: steps, most: int(most), exchange: 2 * v["pg-exchange"] * ms, step: v["pg-serial"] * us * slower, flush: v["pg-flush"] * ms}
		o.uses = append(o.uses, use{"database's processors", busy},
			use{"sequencer", float64(p.nodes) * steps / most * v["pg-flush"] * ms})
	} else {
		o.groups = groups{nodes: 1, rate: steps, most: int(most), step: v["serial"] * us, flush: v["flush"] * ms}
	}
	g, writer := o.groups, "writer"
	if p.postgres {
		writer = "groups of a node"
	}
	o.uses = append(o.uses, use{writer, g.rate * (g.step + (g.exchange+g.flush)/float64(g.most))})

	o.egress = o.rate * v["event-bytes"] * 8 * v["subscribers"]
	answers := node * v["calls"] * v["answer"] * 8e3
	if p.merged {
		o.uses = append(o.uses, use{"merged numbering", o.rate / v["merge"]},
			use{"processors of the merged stream", o.rate * v["subscribers"] * v["frame"] * us / float64(p.cores)},
			use{"network of the merged stream", o.egress / (v["network"] * 1e6)},
			use{"network", answers / (v["network"] * 1e6)})
	} else {
		o.uses = append(o.uses, use{"network", (answers + o.egress/all) / (v["network"] * 1e6)})
	}
	if p.entryway {
		sessions := []class{{refresh, v["write"] * us}, {login, v["login"] * ms}}
		o.uses = append(o.uses, use{"entryway's processors", work(sessions) / float64(p.cores)},
			use{"entryway's writer", refresh * (v["serial"]*us + v["flush"]*ms/most)})
	}
	o.fullest = slices.MaxFunc(o.uses, func(a, b use) int {
		if a.part < b.part {
			return -1
		}
		return 1
	})
	o.memory = (v["rest"]+v["exports"])*(1<<20) + min(p.accounts/all*v["account"]*(1<<10), v["cache"]*(1<<20)) + v["subscribers"]*v["stalled"]*1e6
	return o
}

func work(calls []class) (sum float64) {
	for _, c := range calls {
		sum += c.rate * c.seconds
	}
	return sum
}

// times simulates commits: processors first, then the group. What leaves a queue with Poisson
// arrivals has them too (Burke), nearly so here.
func (o *outcome) times(v values, seed uint64) {
	for _, u := range o.uses {
		if u.part >= 1 && u.what != "disk, in 12 months" {
			o.p50, o.p99 = math.Inf(1), math.Inf(1)
			return
		}
	}
	if !(o.groups.rate > 1e-6) { // nobody is there
		return
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	const n = 20_000
	took := o.groups.latencies(n, rng)
	likely, mean := wait(o.cores, o.processes)
	for i := range took {
		took[i] += v["write"] * us
		if rng.Float64() < likely {
			took[i] += rng.ExpFloat64() * mean
		}
		if rng.Float64() < o.cold {
			took[i] += o.rebuild
		}
	}
	slices.Sort(took)
	o.p50, o.p99 = took[n/2], took[n*99/100]
}

// most is the plan with as many accounts as the limit lets it carry.
func most(p plan, v values) plan {
	low, high := 0.0, 1e12
	for high-low > max(1, low/1e6) {
		p.accounts = (low + high) / 2
		if evaluate(p, v).fullest.part*100 > v["limit"] {
			high = p.accounts
		} else {
			low = p.accounts
		}
	}
	p.accounts = low
	return p
}
