package jobs

import (
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
)

// The names of the methods.
const (
	sendMethod   = "org.pdskit.queue.send"
	leaseMethod  = "org.pdskit.queue.lease"
	extendMethod = "org.pdskit.queue.extend"
	finishMethod = "org.pdskit.queue.finish"
	statsMethod  = "org.pdskit.queue.stats"
)

type message struct {
	Body  data.Bytes `json:"body"`
	Key   string     `json:"key,omitempty"`
	ID    string     `json:"id,omitempty"`
	Delay int64      `json:"delay,omitempty"` // milliseconds
}

type sendInput struct {
	Queue string    `json:"queue"`
	Jobs  []message `json:"jobs"`
}

type sendOutput struct {
	IDs []string `json:"ids"`
}

type leaseInput struct {
	Queue string `json:"queue"`
	Most  int    `json:"most,omitempty"` // 0: 1
	Wait  int64  `json:"wait,omitempty"` // milliseconds
}

type job struct {
	ID        string     `json:"id"`
	Lease     string     `json:"lease"`
	Body      data.Bytes `json:"body"`
	Key       string     `json:"key,omitempty"`
	Attempt   int        `json:"attempt"`
	Enqueued  time.Time  `json:"enqueued"`
	Until     time.Time  `json:"until"`
	LastError string     `json:"lastError,omitempty"`
}

type leaseOutput struct {
	LeaseTime int64 `json:"leaseTime"` // milliseconds
	Jobs      []job `json:"jobs"`
}

type lease struct {
	ID    string `json:"id"`
	Lease string `json:"lease"`
}

type extendInput struct {
	Queue  string  `json:"queue"`
	Leases []lease `json:"leases"`
}

type extendOutput struct {
	LeaseTime int64     `json:"leaseTime"`
	Until     time.Time `json:"until"`
	Lost      []string  `json:"lost"`
}

type result struct {
	ID       string `json:"id"`
	Lease    string `json:"lease"`
	Error    string `json:"error,omitempty"`
	Delay    *int64 `json:"delay,omitempty"` // milliseconds
	Dead     bool   `json:"dead,omitempty"`
	Released bool   `json:"released,omitempty"`
}

type finishInput struct {
	Queue   string   `json:"queue"`
	Results []result `json:"results"`
}

type finishOutput struct {
	Lost []string `json:"lost"`
}

type statsInput struct {
	Queue string `json:"queue"`
}

type statsOutput struct {
	Due    int        `json:"due"`
	Later  int        `json:"later"`
	Behind int        `json:"behind"`
	Dead   int        `json:"dead"`
	Paused bool       `json:"paused"`
	Oldest *time.Time `json:"oldest,omitempty"`
}
