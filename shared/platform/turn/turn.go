// Package turn shares a few places among many parties fairly: when more want one
// than there are, the parties take turns, however many requests each has.
package turn

import (
	"context"
	"sync"
)

// Queue hands out places. Make one with New.
type Queue struct {
	mu      sync.Mutex
	free    int
	waiting map[string][]chan struct{} // party → its requests, oldest first
	order   []string                   // parties with requests; the first is next
}

// New returns a queue with the given number of places, at least one.
func New(places int) *Queue {
	return &Queue{free: max(1, places), waiting: map[string][]chan struct{}{}}
}

// Take waits for a place. Whoever got one gives it back with Leave.
func (q *Queue) Take(ctx context.Context, party string) error {
	q.mu.Lock()
	if q.free > 0 {
		q.free--
		q.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	if len(q.waiting[party]) == 0 {
		q.order = append(q.order, party)
	}
	q.waiting[party] = append(q.waiting[party], turn)
	q.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-turn:
		// It came at the same moment; somebody else shall have it.
		q.pass()
	default:
		q.forget(party, turn)
	}
	return ctx.Err()
}

// Leave gives a place back.
func (q *Queue) Leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pass()
}

// pass gives a place to the oldest request of the party whose turn it is, and
// puts that party behind the others.
func (q *Queue) pass() {
	if len(q.order) == 0 {
		q.free++
		return
	}
	party := q.order[0]
	q.order = q.order[1:]
	next := q.waiting[party][0]
	if q.waiting[party] = q.waiting[party][1:]; len(q.waiting[party]) > 0 {
		q.order = append(q.order, party)
	} else {
		delete(q.waiting, party)
	}
	close(next)
}

// forget takes back a request.
func (q *Queue) forget(party string, turn chan struct{}) {
	list := q.waiting[party]
	for i, c := range list {
		if c == turn {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) > 0 {
		q.waiting[party] = list
		return
	}
	delete(q.waiting, party)
	for i, p := range q.order {
		if p == party {
			q.order = append(q.order[:i:i], q.order[i+1:]...)
			return
		}
	}
}
