// Package eventing holds the Broker, Triggers and sources that a cluster applies,
// and reads them, so that one process can route by the very same files.
package eventing

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"go.yaml.in/yaml/v3"
)

//go:embed broker.yaml triggers.yaml sources.yaml
var files embed.FS

// Trigger is what a Trigger says, as far as routing goes.
type Trigger struct {
	Name       string
	Exact      map[string]string // attributes an event must have
	Subscriber string            // the function's service
	Path       string
	Timeout    time.Duration // of one attempt
	Retry      int           // attempts after the first
	Backoff    time.Duration // before the first retry; doubles
}

// Matches reports whether the Trigger's subscriber is to hear e.
func (t Trigger) Matches(e cloudevents.Event) bool {
	for name, want := range t.Exact {
		if attribute(e, name) != want {
			return false
		}
	}
	return true
}

func attribute(e cloudevents.Event, name string) string {
	switch name {
	case "type":
		return e.Type()
	case "source":
		return e.Source()
	case "subject":
		return e.Subject()
	}
	if v, ok := e.Extensions()[name].(string); ok {
		return v
	}
	return ""
}

// triggerFile is the part of a Trigger's manifest that is read here.
type triggerFile struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Filters []struct {
			Exact map[string]string
		}
		Subscriber struct {
			Ref struct{ Name string }
			URI string `yaml:"uri"`
		}
		Delivery struct {
			Retry         int
			BackoffPolicy string `yaml:"backoffPolicy"`
			BackoffDelay  string `yaml:"backoffDelay"`
			Timeout       string
		}
	}
}

// Triggers reads triggers.yaml.
func Triggers() ([]Trigger, error) {
	text, err := files.ReadFile("triggers.yaml")
	if err != nil {
		return nil, err
	}
	var out []Trigger
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var f triggerFile
		err := dec.Decode(&f)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("triggers.yaml: %w", err)
		}
		t, err := f.trigger()
		if err != nil {
			return nil, fmt.Errorf("trigger %q: %w", f.Metadata.Name, err)
		}
		out = append(out, t)
	}
}

func (f triggerFile) trigger() (Trigger, error) {
	t := Trigger{Name: f.Metadata.Name, Exact: map[string]string{}, Subscriber: f.Spec.Subscriber.Ref.Name,
		Path: f.Spec.Subscriber.URI, Retry: f.Spec.Delivery.Retry}
	if f.Kind != "Trigger" || t.Name == "" || t.Subscriber == "" || len(f.Spec.Filters) == 0 {
		return Trigger{}, errors.New("kind, name, filters and subscriber are needed")
	}
	for _, filter := range f.Spec.Filters {
		for name, value := range filter.Exact {
			t.Exact[name] = value
		}
	}
	if f.Spec.Delivery.BackoffPolicy != "exponential" {
		return Trigger{}, errors.New("the back-off policy must be exponential")
	}
	var err error
	if t.Timeout, err = parseDuration(f.Spec.Delivery.Timeout); err != nil {
		return Trigger{}, err
	}
	t.Backoff, err = parseDuration(f.Spec.Delivery.BackoffDelay)
	return t, err
}

var seconds = regexp.MustCompile(`^PT([0-9]+(?:\.[0-9]+)?)S$`)

// parseDuration reads the one form of ISO 8601 durations that these files use.
func parseDuration(s string) (time.Duration, error) {
	m := seconds.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("duration %q is not of the form PT<seconds>S", s)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("duration %q: %w", s, err)
	}
	return time.Duration(n * float64(time.Second)), nil
}
