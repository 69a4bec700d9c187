// Package brain decides what agents do. A Brain gets what an agent knows at one occasion, and
// returns what the agent should write. It has no access to anything else: an agent carries out the
// response in one transaction, or not at all. So a brain may be killed at any time, may be asked
// twice, and may be a program in any language.
//
//	Scripted  built in: deterministic, without a network and without a model
//	Command   a program that reads a Request from its input and writes a Response, both in JSON
//	Endpoint  an HTTP server that takes a Request by POST and answers with a Response
//
// A response is untrusted: it may come from a model that has read untrusted texts. It is bounded
// text (see Response.Check), and nothing in it is executed.
package brain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/lexicon/data"
)

// Brain decides. It is safe for concurrent use: many agents share one.
type Brain interface {
	// Think answers a request. An error means that there is no answer this time: a task is tried
	// again later, and given up after some attempts.
	Think(ctx context.Context, r Request) (Response, error)
}

// The occasions on which a brain is asked.
const (
	OnTick    = "tick"    // the agent's alarm: is there something to be done?
	OnTask    = "task"    // the agent has the lease of a task
	OnMessage = "message" // another agent has sent a message
)

// Request is what an agent knows.
type Request struct {
	Agent    Agent    `json:"agent"`
	Occasion string   `json:"occasion"`
	Tick     int64    `json:"tick,omitempty"` // of OnTick: counts from 0
	Task     *Task    `json:"task,omitempty"`
	Message  *Message `json:"message,omitempty"`
	// Memory is what the brain has asked the agent to remember. Nobody else can read it.
	Memory map[string]string `json:"memory"`
	// Known is what the search finds about the task.
	Known []Known `json:"known,omitempty"`
}

// Agent is who is asked.
type Agent struct {
	DID          string   `json:"did"`
	Name         string   `json:"name"`
	Capabilities []string `json:"capabilities"`
}

// Task is what is to be done.
type Task struct {
	URI     string `json:"uri"`
	Kind    string `json:"kind"`
	Text    string `json:"text"`
	Attempt int    `json:"attempt"` // counts from 1
}

// Message is a message that was opened.
type Message struct {
	From string `json:"from"` // a name, or a DID
	Text string `json:"text"`
}

// Known is a record that others have written. Its text is nobody's instruction.
type Known struct {
	URI  string `json:"uri"`
	By   string `json:"by"`
	Text string `json:"text"`
}

// Response is what an agent is to write.
type Response struct {
	Output   string            `json:"output,omitempty"`   // the result of a task
	Evidence []string          `json:"evidence,omitempty"` // addresses of Known that it rests on
	Artifact *Artifact         `json:"artifact,omitempty"` // a file that belongs to the result
	Observe  []Observation     `json:"observe,omitempty"`  // for all to read
	Tasks    []NewTask         `json:"tasks,omitempty"`    // for whoever can do them
	Tell     string            `json:"tell,omitempty"`     // a message to the author of the task, for it alone
	Remember map[string]string `json:"remember,omitempty"` // an empty value forgets
}

// Artifact is a file.
type Artifact struct {
	Type string `json:"type"` // text/plain, image/svg+xml or image/png
	Data []byte `json:"data"` // in base64
}

// Observation is what an agent has found out.
type Observation struct {
	Text string   `json:"text"`
	Tags []string `json:"tags,omitempty"`
}

// NewTask is a task that others are to do.
type NewTask struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// Bounds of a Response.
const (
	MaxAnswer   = 512 << 10 // bytes of the JSON
	MaxText     = 3000      // bytes of each text
	MaxArtifact = 256 << 10
	MaxList     = 8  // observations, tasks
	MaxMemory   = 32 // notes that an agent keeps
)

// ErrAnswer: the answer of a brain breaks the bounds.
var ErrAnswer = errors.New("brain: not an answer")

// Check returns an ErrAnswer if the answer breaks the bounds.
func (r *Response) Check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrAnswer, what) }
	texts := []string{r.Output, r.Tell}
	if len(r.Observe) > MaxList || len(r.Tasks) > MaxList || len(r.Evidence) > MaxList || len(r.Remember) > MaxMemory {
		return bad("too many items")
	}
	for _, o := range r.Observe {
		if strings.TrimSpace(o.Text) == "" || len(o.Tags) > MaxList {
			return bad("an observation without text, or with too many tags")
		}
		texts = append(texts, o.Text)
		for _, tag := range o.Tags {
			if tag == "" || len(tag) > 64 || !utf8.ValidString(tag) {
				return bad("a tag has 1 to 64 bytes")
			}
		}
	}
	for _, t := range r.Tasks {
		if t.Kind == "" || len(t.Kind) > 64 || !utf8.ValidString(t.Kind) || strings.TrimSpace(t.Text) == "" {
			return bad("a task needs a kind of at most 64 bytes, and a text")
		}
		texts = append(texts, t.Text)
	}
	for key, value := range r.Remember {
		if key == "" || len(key) > 64 || !utf8.ValidString(key) || len(value) > 512 {
			return bad("a note has a name of 1 to 64 bytes and a text of at most 512")
		}
		texts = append(texts, value)
	}
	for _, text := range texts {
		if len(text) > MaxText || !utf8.ValidString(text) {
			return bad(fmt.Sprintf("a text is no UTF-8, or longer than %d bytes", MaxText))
		}
	}
	if a := r.Artifact; a != nil {
		if a.Type != "text/plain" && a.Type != "image/svg+xml" && a.Type != "image/png" {
			return bad("the type of the artifact")
		}
		if len(a.Data) == 0 || len(a.Data) > MaxArtifact {
			return bad(fmt.Sprintf("an artifact has 1 to %d bytes", MaxArtifact))
		}
	}
	return nil
}

// parse reads an answer in JSON.
func parse(b []byte) (r Response, err error) {
	if err := data.UnmarshalJSON(b, &r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return r, r.Check()
}
