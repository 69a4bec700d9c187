package indexer

import "time"

// A download that takes long gives its place to others. There are some places for those, too, and
// if all are taken, the slowest download is ended every now and then, unless it is a fast one of a
// large repository: so hosts that send slowly cannot keep the others from being read, however many
// they are.
const (
	slowAfter = time.Minute
	slowShare = 4                 // places for slow downloads, by Indexer.Fetches
	slowRate  = 10 * downloadRate // below it, one may be ended
	cutEvery  = 10 * time.Second
)

// load notes the download of a job; nil: it has ended.
func (x *jobs) load(j *job, p *pace) {
	x.mu.Lock()
	defer x.mu.Unlock()
	j.pace = p
}

func (p *pace) slow(now time.Time) bool { return p != nil && now.Sub(p.began) > slowAfter }

// places is how many places are taken.
func (x *jobs) places() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	slow, now := 0, time.Now()
	for _, j := range x.list {
		if j.pace.slow(now) {
			slow++
		}
	}
	return len(x.list) - min(slow, x.slowMost)
}

// cutSlowest ends the slowest download, if that is to be done.
func (x *jobs) cutSlowest() {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	if now.Sub(x.cut) < cutEvery {
		return
	}
	var slowest *pace
	least := float64(slowRate)
	for _, j := range x.list {
		if j.pace.slow(now) {
			if rate := float64(j.pace.bytes.Load()) / now.Sub(j.pace.began).Seconds(); rate < least {
				slowest, least = j.pace, rate
			}
		}
	}
	if slowest != nil {
		x.cut = now
		slowest.cancel()
	}
}
