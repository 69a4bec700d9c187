package brain

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode"

	"github.com/pdskit/pdskit/internal/sleep"
)

// Scripted is a brain without a model: what it says follows from the request alone. Its planner
// goes through a list of questions about the coast; its workers count, summarise, draw, recall and
// split tasks. Two kinds are there to show what goes wrong: "fragile" fails at the first attempt,
// "impossible" at every one.
type Scripted struct {
	// Pace is how long a thought takes about: half of it to one and a half. 0: no time.
	Pace time.Duration
}

// Kinds lists the kinds of tasks of a Scripted brain, in groups: the roles that agents have.
func Kinds() [][]string {
	return [][]string{{"plan"}, {"summarise", "count"}, {"draw", "fragile"}, {"recall", "summarise"}, {"count", "draw", "impossible"}}
}

// Think implements Brain.
func (s Scripted) Think(ctx context.Context, r Request) (Response, error) {
	if err := s.wait(ctx, r); err != nil {
		return Response{}, err
	}
	switch r.Occasion {
	case OnTick:
		return Response{Tasks: []NewTask{agenda(r.Tick)}}, nil
	case OnMessage:
		return Response{Remember: map[string]string{"last message": clip(r.Message.From+": "+r.Message.Text, 200)}}, nil
	case OnTask:
		return work(r)
	}
	return Response{}, nil
}

// wait takes the time of a thought.
func (s Scripted) wait(ctx context.Context, r Request) error {
	if s.Pace <= 0 || r.Occasion != OnTask {
		return ctx.Err()
	}
	return sleep.For(ctx, s.Pace/2+time.Duration(hash(r.Task.URI)%1000)*s.Pace/1000)
}

// agenda is the planner's list.
func agenda(n int64) NewTask {
	text := texts[n%int64(len(texts))]
	topic := topics[n%int64(len(topics))]
	switch {
	case n%31 == 17:
		return NewTask{"impossible", "Say how many waves the sea has made so far."}
	case n%13 == 5:
		return NewTask{"fragile", "Fetch the log of the " + topic + " over a bad line."}
	}
	switch n % 5 {
	case 0:
		return NewTask{"summarise", text}
	case 1:
		return NewTask{"count", text}
	case 2:
		return NewTask{"draw", topic}
	case 3:
		return NewTask{"recall", topic}
	}
	return NewTask{"plan", "A leaflet about the " + topic}
}

// work does a task.
func work(r Request) (Response, error) {
	text := r.Task.Text
	switch r.Task.Kind {
	case "plan":
		topic := strings.TrimPrefix(text, "A leaflet about the ")
		return Response{
			Output: "Split into three: recall, summarise, draw.",
			Tasks:  []NewTask{{"recall", topic}, {"summarise", texts[hash(topic)%uint64(len(texts))]}, {"draw", topic}},
			Tell:   "Three parts are on their way.",
		}, nil
	case "summarise":
		out := summary(text)
		return Response{Output: out, Observe: []Observation{{Text: out, Tags: commonest(text, 3)}}, Tell: "I kept one sentence of " + fmt.Sprint(strings.Count(text, ".")) + "."}, nil
	case "count":
		words := commonest(text, 3)
		return Response{Output: fmt.Sprintf("%d words; most used: %s", len(strings.Fields(text)), strings.Join(words, ", ")), Remember: map[string]string{"last count": strings.Join(words, ", ")}}, nil
	case "draw":
		return Response{Output: "A drawing of the " + text, Artifact: &Artifact{"image/svg+xml", []byte(drawing(text))}, Tell: "I like how the " + text + " came out."}, nil
	case "recall":
		return recall(r), nil
	case "fragile":
		if r.Task.Attempt == 1 {
			return Response{}, errors.New("the line broke")
		}
		return Response{Output: fmt.Sprintf("Fetched at attempt %d.", r.Task.Attempt)}, nil
	}
	return Response{}, fmt.Errorf("nobody can do this: %s", r.Task.Kind)
}

// recall answers from what others have observed, and names it.
func recall(r Request) Response {
	var out []string
	var evidence []string
	for _, k := range r.Known {
		if len(out) < 3 {
			out, evidence = append(out, clip(k.Text, 300)), append(evidence, k.URI)
		}
	}
	if len(out) == 0 {
		return Response{Output: "Nothing is known about the " + r.Task.Text + " yet."}
	}
	return Response{Output: strings.Join(out, " "), Evidence: evidence, Tell: fmt.Sprintf("It rests on %d records.", len(out))}
}

// summary is the sentence that has most of the commonest words.
func summary(text string) string {
	words := commonest(text, 8)
	best, most := "", -1
	for s := range strings.SplitAfterSeq(text, ".") {
		n := 0
		for _, w := range words {
			n += strings.Count(strings.ToLower(s), w)
		}
		if s = strings.TrimSpace(s); s != "" && n > most {
			best, most = s, n
		}
	}
	return clip(best, 600)
}

// commonest lists the longer words of a text, the commonest first.
func commonest(text string, n int) []string {
	count := make(map[string]int)
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		if len(w) > 4 && len(w) <= 60 {
			count[w]++
		}
	}
	var words []string
	for w := range count {
		words = append(words, w)
	}
	sort.Slice(words, func(i, j int) bool {
		if count[words[i]] != count[words[j]] {
			return count[words[i]] > count[words[j]]
		}
		return words[i] < words[j]
	})
	return slices.Clip(words[:min(n, len(words))])
}

// drawing is a picture that follows from a text: waves, and something above them.
func drawing(text string) string {
	h := hash(text)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 100"><rect width="160" height="100" fill="hsl(%d 45%% 90%%)"/>`, h%360)
	fmt.Fprintf(&b, `<circle cx="%d" cy="%d" r="%d" fill="hsl(%d 70%% 66%%)"/>`, 30+h%100, 18+h/7%22, 8+h/11%9, (h+40)%360)
	for i := range uint64(5) {
		y := 46 + float64(i)*11
		fmt.Fprintf(&b, `<path d="M0 100V%.1f`, y)
		for x := 0; x <= 160; x += 8 {
			fmt.Fprintf(&b, "L%d %.1f", x, y+4*math.Sin(float64(x)/(9+float64(h>>(i*3)%9))+float64(h>>i%7)))
		}
		fmt.Fprintf(&b, `V100Z" fill="hsl(%d 48%% %d%%)" fill-opacity=".75"/>`, (h+170+i*9)%360, 74-i*9)
	}
	return b.String() + "</svg>"
}

func hash(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64() >> 8
}

// clip cuts a text to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

var topics = []string{"lighthouse", "tide", "harbour", "reef", "ferry", "storm", "salt marsh", "island"}

var texts = []string{
	"A lighthouse says where the coast is, and by its rhythm which coast it is. Each lighthouse has a rhythm of its own, so that a sailor who counts the seconds between flashes knows the lighthouse by name. The lamp is small. The lens around the lamp does the work.",
	"The tide follows the moon, and the sun a little. Twice a day the water of the tide climbs up the harbour wall and falls again. Where a bay is long and narrow, the tide is high, because the bay swings with the water.",
	"A harbour is a place without waves. The wall of the harbour takes the sea's strength away, stone by stone, and the boats inside the harbour move only with the wind. The best harbour has deep water, a narrow mouth and a pub.",
	"A reef grows from the work of animals that never move. The reef breaks the waves before they reach the island, and gives a home to a quarter of all fish. A reef that is warm for too long turns white, and the fish of the reef leave.",
	"The ferry leaves at seven, at noon and at six. In a storm the ferry stays in the harbour, and the island waits for its bread. People on the island say that the ferry is a clock that floats.",
	"A storm can be seen before it is heard. The swell of a storm runs ahead of it for days, long and slow, so that the coast feels the storm while the sky is still blue. Boats come into the harbour then, and nets are hung up.",
	"A salt marsh is land twice a day and sea twice a day. Plants of the salt marsh drink salt and sweat it out again. The marsh slows the waves down, so that the wall behind the marsh may be lower.",
	"An island is a mountain that stands in the sea. On a small island everybody knows the weather, and on a large island everybody knows somebody who knows it. Birds that reach an island stay, and after some thousand years they are birds of that island alone.",
}
