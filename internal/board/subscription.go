package board

import (
	"time"

	"github.com/manul-net/manul/internal/render"
)

// Subscription is what the board knows of one node: what concerns it, and what it has yet to be told. It outlives the stream
// for a while, so that a node that comes back is told only what it missed.
type Subscription struct {
	board *Board
	node  string
	// wake when there is news, hurry when some of it should wait for nothing.
	wake, hurry chan struct{}

	// programs that the node's state names; sets and ports: how many of the programs name each.
	programs    map[string]struct{}
	sets, ports map[string]int

	// pending are the items that the node may lack, since when; beside these the networks that changed after the cursor networksTo.
	pending    map[ItemKey]struct{}
	networksTo uint64
	since      time.Time
	// hurries: some of them are to wait for nothing.
	hurries bool
	// reset: the node is told everything, and forgets what it is not told.
	reset bool
	// sent are batches that the node has not acknowledged.
	sent []sent
	// sentItems counts their items. When they are too many the node can't resume.
	sentItems int

	// versions that the node was told of, and asked: those of which the operator waits for word. A version is asked for once it counts.
	versions, asked map[render.Kind]uint64
	// later are those that it may be asked for with others. resting: it was, not long ago; who sends will look by itself.
	later   map[render.Kind]uint64
	resting bool
	// state: the node's own object has been written.
	state   *Meta
	newMeta bool

	// attached counts the streams; the newest counts.
	attached uint64
	expiry   *time.Timer
}

type sent struct {
	cursor uint64
	reset  bool
	keys   []ItemKey
}

const (
	// maxSent bounds the items that are remembered until the node has acknowledged them.
	maxSent = 200_000
	// retention is how long a node that went away is remembered.
	retention = 2 * time.Minute
)

// Subscribe begins or goes on with a node's subscription. A node that was told up to cursor of this board's epoch, not long ago, is
// told what it missed; any other is told everything. The attachment ends the one before.
func (b *Board) Subscribe(node, epoch string, cursor uint64) (s *Subscription, attachment uint64, resumed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s = b.nodes[node]
	if s != nil && s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	resumed = s != nil && epoch == b.epoch && s.resume(cursor)
	if !resumed {
		attached := uint64(0)
		if s != nil {
			attached = s.attached
			s.wakeUp(time.Now()) // so that its stream sees that it is over
			b.drop(s)
		}
		s = &Subscription{
			board: b, node: node, wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), attached: attached,
			programs: map[string]struct{}{}, sets: map[string]int{}, ports: map[string]int{},
			versions: map[render.Kind]uint64{}, asked: map[render.Kind]uint64{}, later: map[render.Kind]uint64{},
		}
		b.nodes[node] = s
		s.everything()
	}
	s.attached++
	// What it was told of versions, and asked for, may not have reached it.
	clear(s.versions)
	s.resting = false
	for kind := range b.written.reached {
		s.asked[kind] = max(s.asked[kind], b.written.upTo(kind))
	}
	s.newMeta = s.state != nil
	s.wakeUp(time.Now())
	return s, s.attached, resumed
}

// Resumes tells whether a node that has all up to a cursor of an epoch would be told what it missed only.
func (b *Board) Resumes(node, epoch string, cursor uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.nodes[node]
	return s != nil && epoch == b.epoch && s.resumes(cursor)
}

func (s *Subscription) resumes(cursor uint64) bool {
	if s.reset || cursor < s.board.networks.forgotten {
		return false
	}
	for _, batch := range s.sent {
		if batch.cursor > cursor && batch.reset {
			return false // it never got what everything began with
		}
	}
	return true
}

// resume takes up what was sent after a cursor. It tells whether that is known.
func (s *Subscription) resume(cursor uint64) bool {
	if !s.resumes(cursor) {
		return false
	}
	s.networksTo = min(s.networksTo, cursor)
	s.acknowledge(cursor)
	for _, batch := range s.sent {
		for _, key := range batch.keys {
			s.mark(key)
		}
	}
	s.sent, s.sentItems = nil, 0
	return true
}

// Leave ends an attachment. The subscription is forgotten after a while, and forgotten called, unless the node comes back.
func (s *Subscription) Leave(attachment uint64, forgotten func()) {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	if s.attached != attachment || s.board.nodes[s.node] != s {
		return
	}
	s.expiry = time.AfterFunc(retention, func() {
		if s.expire(attachment) {
			forgotten()
		}
	})
}

func (s *Subscription) expire(attachment uint64) bool {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	if s.attached != attachment || s.expiry == nil || s.board.nodes[s.node] != s {
		return false
	}
	s.board.drop(s)
	return true
}

// drop forgets a subscription.
func (b *Board) drop(s *Subscription) {
	if b.nodes[s.node] == s {
		delete(b.nodes, s.node)
	}
	for name := range s.programs {
		b.byProgram.remove(name, s)
	}
	for id := range s.sets {
		b.bySet.remove(id, s)
	}
	for name := range s.ports {
		b.byPort.remove(name, s)
	}
	delete(b.waiting, s)
	s.pending, s.sent = nil, nil
}

// everything has the node told all that concerns it.
func (s *Subscription) everything() {
	b := s.board
	s.reset, s.pending = true, nil
	s.sent, s.sentItems = nil, 0
	s.state = b.written.metaOf(s.node)
	if o := b.objects[render.Key{Kind: render.KindNodeState, Name: s.node}]; o != nil {
		s.concern(programsOf(o.items))
	}
}

// mark notes that the node may lack the newest form of an item.
func (s *Subscription) mark(key ItemKey) {
	if s.reset {
		return // it lacks all
	}
	if s.pending == nil {
		s.pending = map[ItemKey]struct{}{}
	}
	s.pending[key] = struct{}{}
}

// wakeUp has the stream look.
func (s *Subscription) wakeUp(since time.Time) {
	if s.since.IsZero() || since.Before(s.since) {
		s.since = since
	}
	s.signal()
}

// signal wakes one of the streams.
func (s *Subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
	if !s.hurries {
		return
	}
	select {
	case s.hurry <- struct{}{}:
	default:
	}
}

// Wake yields a value when Take has something that should not wait.
func (s *Subscription) Wake() <-chan struct{} { return s.wake }

// Hurry yields a value when some of that is about the node's own pods or about policies: it waits for no other news.
func (s *Subscription) Hurry() <-chan struct{} { return s.hurry }

// Acknowledge notes that the node has received everything up to a cursor.
func (s *Subscription) Acknowledge(cursor uint64) {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	s.acknowledge(cursor)
}

func (s *Subscription) acknowledge(cursor uint64) {
	for len(s.sent) > 0 && s.sent[0].cursor <= cursor {
		s.sentItems -= len(s.sent[0].keys)
		s.sent[0] = sent{} // the list keeps its place
		s.sent = s.sent[1:]
	}
	if len(s.sent) == 0 {
		s.sent = nil
	}
}

// Batch is what a node lacks.
type Batch struct {
	Cursor uint64
	// Reset: whatever the batch does not give is gone.
	Reset bool
	// All are items that every node knows, when it begins; nil for none. What else the batch says comes after it, and may replace some of it.
	All *Collection
	// Gone are items that do not exist or do not concern the node; Items those that do.
	Gone  []ItemKey
	Items []*Item
	// Versions up to which the node then knows all of a kind, as far as it is concerned: those that are new. Asked are the kinds of
	// which the operator waits for the node's word.
	Versions map[render.Kind]uint64
	Asked    []render.Kind
	// State is the node's own object as it was written last; nil: nothing new.
	State *Meta
	// Since is when the first of it became known.
	Since time.Time
	// Rests: the node is asked for a word that could have waited. The next of that kind wakes nobody: Take is to be called with Leisurely
	// after a rest.
	Rests bool
}

// Also says what is to go out beside what should not wait.
type Also struct {
	// Versions, even if there is no other news.
	Versions bool
	// Leisurely: the node is asked for words that can wait.
	Leisurely bool
}

// Empty tells whether there is nothing to say but perhaps versions.
func (b *Batch) Empty() bool {
	return !b.Reset && len(b.Gone) == 0 && len(b.Items) == 0 && b.State == nil && len(b.Asked) == 0
}

// Take gives all that the node lacks, in its newest form. Versions go along with other news. current is false
// when another attachment has taken over.
func (s *Subscription) Take(attachment uint64, also Also) (batch Batch, current bool) {
	b := s.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.attached != attachment || b.nodes[s.node] != s {
		s.signal() // the newer stream may have been meant
		return Batch{}, false
	}
	if s.sentItems+len(s.pending) > maxSent && !s.reset && s.sentItems > 0 {
		s.sent, s.sentItems = nil, 0
		s.sent = append(s.sent, sent{cursor: b.cursor, reset: true}) // it can't resume from before here
	}
	batch = Batch{Cursor: b.cursor, Reset: s.reset, Since: s.since}
	s.takePending(&batch)
	s.takeNetworks(&batch)
	s.pending, s.since, s.reset = nil, time.Time{}, false
	s.hurries = false
	select {
	case <-s.hurry:
	default:
	}
	s.ask(&batch, also.Leisurely)
	if s.newMeta {
		batch.State, s.newMeta = s.state, false
	}
	if batch.Empty() && !also.Versions {
		return batch, true
	}
	for kind := range b.written.reached {
		if v := b.written.upTo(kind); v > s.versions[kind] {
			if batch.Versions == nil {
				batch.Versions = map[render.Kind]uint64{}
			}
			batch.Versions[kind], s.versions[kind] = v, v
		}
	}
	return batch, true
}

// takePending puts what is pending into a batch, and remembers it until the node has acknowledged it. Who did not get everything that it
// began with begins anew, so of that nothing need be remembered. The lock is held.
func (s *Subscription) takePending(batch *Batch) {
	if s.reset {
		batch.Items = s.all()
		s.sent = append(s.sent, sent{cursor: batch.Cursor, reset: true})
		return
	}
	if len(s.pending) == 0 {
		return
	}
	keys := make([]ItemKey, 0, len(s.pending))
	for key := range s.pending {
		keys = append(keys, key)
		if item := s.board.find(key); item != nil && s.concerns(item) {
			batch.Items = append(batch.Items, item)
		} else {
			batch.Gone = append(batch.Gone, key)
		}
	}
	s.sent = append(s.sent, sent{cursor: batch.Cursor, keys: keys})
	s.sentItems += len(keys)
}

// takeNetworks puts the networks of nodes into a batch that the node was not told of. The lock is held.
func (s *Subscription) takeNetworks(batch *Batch) {
	n := &s.board.networks
	from := s.networksTo
	if s.reset {
		batch.All, from = n.collection(batch.Cursor)
	}
	s.networksTo = batch.Cursor
	for node, item := range n.since(from) {
		key := networkKey(node)
		if _, known := s.pending[key]; known {
			continue // it is in the batch
		}
		if item != nil {
			batch.Items = append(batch.Items, item)
		} else if !s.reset {
			batch.Gone = append(batch.Gone, key)
		}
	}
}

// ask has a batch ask for the words that count by now. The lock is held.
func (s *Subscription) ask(batch *Batch, leisurely bool) {
	b := s.board
	if leisurely {
		s.resting, batch.Rests = len(s.later) > 0, len(s.later) > 0
	}
	if leisurely || len(s.asked) > 0 { // it will speak anyway
		for kind, version := range s.later {
			s.asked[kind] = max(s.asked[kind], version)
		}
		clear(s.later)
	}
	for kind, version := range s.asked {
		if b.written.upTo(kind) < version {
			b.waiting[s] = struct{}{}
			continue
		}
		batch.Asked = append(batch.Asked, kind)
		delete(s.asked, kind)
	}
}
