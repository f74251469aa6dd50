package record

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"

	"makeitso/internal/fault"
)

// Memory is a Store that forgets everything with the process.
type Memory struct {
	mu      sync.Mutex
	records map[string]map[string]Entry // kind, key
	streams map[string][]Item
	grown   chan struct{} // closed and replaced whenever a stream grows
}

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{records: map[string]map[string]Entry{}, streams: map[string][]Item{}, grown: make(chan struct{})}
}

func (m *Memory) Get(_ context.Context, kind, key string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.records[kind][key]
	if !ok {
		return Entry{}, fault.New(fault.NotFound, "%s %q does not exist", kind, key)
	}
	return e, nil
}

func (m *Memory) List(_ context.Context, kind, prefix string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []Entry
	for key, e := range m.records[kind] {
		if strings.HasPrefix(key, prefix) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return found, nil
}

func (m *Memory) Write(_ context.Context, ops ...Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.write(ops)
}

// write does all of ops or none; m.mu is held.
func (m *Memory) write(ops []Op) error {
	for _, op := range ops {
		has := m.records[op.Kind][op.Key].Version
		if op.If == Absent && has != 0 || op.If > 0 && has != op.If {
			return fault.New(fault.Conflict, "%s %q was changed by somebody else", op.Kind, op.Key)
		}
	}
	for _, op := range ops {
		if op.Keep {
			continue
		}
		kind := m.records[op.Kind]
		if kind == nil {
			kind = map[string]Entry{}
			m.records[op.Kind] = kind
		}
		if op.Value == nil {
			delete(kind, op.Key)
			continue
		}
		kind[op.Key] = Entry{Key: op.Key, Value: slices.Clone(op.Value), Version: kind[op.Key].Version + 1}
	}
	return nil
}

func (m *Memory) Append(ctx context.Context, stream string, values ...[]byte) (int64, error) {
	return m.AppendWith(ctx, stream, values)
}

func (m *Memory) AppendWith(_ context.Context, stream string, values [][]byte, ops ...Op) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.write(ops); err != nil {
		return 0, err
	}
	for _, v := range values {
		m.streams[stream] = append(m.streams[stream], Item{Number: m.last(stream) + 1, Value: slices.Clone(v)})
	}
	close(m.grown)
	m.grown = make(chan struct{})
	return m.last(stream), nil
}

// last gives the number of a stream's last item; m.mu is held.
func (m *Memory) last(stream string) int64 {
	items := m.streams[stream]
	if len(items) == 0 {
		return 0
	}
	return items[len(items)-1].Number
}

// from gives the place in a stream of the first item above a number; m.mu is held.
func (m *Memory) from(stream string, after int64) int {
	return sort.Search(len(m.streams[stream]), func(i int) bool { return m.streams[stream][i].Number > after })
}

func (m *Memory) Read(_ context.Context, stream string, after int64, limit int) ([]Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.streams[stream][m.from(stream, after):]
	return slices.Clone(items[:min(limit, len(items))]), nil
}

func (m *Memory) Last(_ context.Context, stream string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last(stream), nil
}

func (m *Memory) Trim(_ context.Context, stream string, through int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.streams[stream] = slices.Clone(m.streams[stream][m.from(stream, min(through, m.last(stream)-1)):])
	return nil
}

func (m *Memory) Wait(ctx context.Context, stream string, after int64) error {
	for {
		m.mu.Lock()
		n, grown := m.last(stream), m.grown
		m.mu.Unlock()
		if n > after {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
