//go:build cgo

package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/automerge/automerge-go"
)

// editor changes documents the way people and machines of a supply unit might:
// vehicles report, goods come and go, somebody writes in the log.
type editor struct{ rng *rand.Rand }

// A kind of document: how it begins, and the ways it is edited. Each returns
// what it did, which becomes the change's message.
type kind struct {
	begin func(e editor, d *automerge.Doc) error
	edits []func(e editor, d *automerge.Doc) (string, error)
}

func kinds() []string { return []string{"vehicles", "supplies", "log", "readiness"} }

func kindOf(name string) kind {
	switch name {
	case "vehicles":
		return kind{beginVehicles, []edit{moveVehicle, moveVehicle, burnFuel, changeStatus, repairVehicle}}
	case "supplies":
		return kind{beginSupplies, []edit{deliver, deliver, use, orderGoods, dropOrder}}
	case "log":
		return kind{beginLog, []edit{writeLog, writeLog, correctLog}}
	default:
		return kind{beginReadiness, []edit{report, report, comment}}
	}
}

type edit = func(e editor, d *automerge.Doc) (string, error)

// edit changes one document of the library and commits it. A kind without a
// document gets one first.
func (e editor) edit(l *library) (*document, string, error) {
	for _, name := range kinds() {
		if l.current(name) == nil {
			d := l.add(name)
			message := "begin " + name
			return d, message, e.commit(d, message, kindOf(name).begin(e, d.doc))
		}
	}
	d := l.current(pick(e.rng, kinds()))
	message, err := pick(e.rng, kindOf(d.kind).edits)(e, d.doc)
	return d, message, e.commit(d, message, err)
}

func (e editor) commit(d *document, message string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", d.kind, err)
	}
	// A change's time is written in seconds by the library that most peers use;
	// this one would write milliseconds.
	seconds := time.UnixMilli(time.Now().Unix())
	if _, err := d.doc.Commit(message, automerge.CommitOptions{Time: &seconds, AllowEmpty: true}); err != nil {
		return fmt.Errorf("%s: %w", d.kind, err)
	}
	d.changes++
	return nil
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

var (
	callsigns = []string{"anvil", "badger", "cobalt", "dagger", "ember"}
	statuses  = []string{"moving", "loading", "waiting", "returning"}
	goods     = []string{"water", "rations", "diesel", "batteries", "bandages", "tyres"}
	phrases   = []string{"convoy left the depot", "road blocked at the bridge", "radio check, all answer", "rain, visibility poor", "arrived, unloading"}
)

func beginVehicles(e editor, d *automerge.Doc) error {
	vehicles := map[string]any{}
	for i, name := range callsigns {
		vehicles[name] = map[string]any{
			"status": pick(e.rng, statuses), "fuel": 0.9, "crew": 2 + i%2,
			"at":      map[string]any{"lat": 52.1 + float64(i)/10, "lon": 21.0 + float64(i)/10},
			"faults":  []any{},
			"checked": time.Now(),
		}
	}
	return d.Path("vehicles").Set(vehicles)
}

func (e editor) vehicle(d *automerge.Doc) (string, *automerge.Path) {
	name := pick(e.rng, callsigns)
	return name, d.Path("vehicles", name)
}

func moveVehicle(e editor, d *automerge.Doc) (string, error) {
	name, v := e.vehicle(d)
	lat, err := automerge.As[float64](v.Path("at", "lat").Get())
	if err != nil {
		return "", err
	}
	lon, err := automerge.As[float64](v.Path("at", "lon").Get())
	if err != nil {
		return "", err
	}
	if err := v.Path("at", "lat").Set(lat + e.rng.Float64()/100 - 0.005); err != nil {
		return "", err
	}
	return name + " moves", v.Path("at", "lon").Set(lon + e.rng.Float64()/100 - 0.005)
}

func burnFuel(e editor, d *automerge.Doc) (string, error) {
	name, v := e.vehicle(d)
	fuel, err := automerge.As[float64](v.Path("fuel").Get())
	if err != nil {
		return "", err
	}
	if fuel < 0.2 {
		return name + " refuels", v.Path("fuel").Set(1.0)
	}
	return name + " burns fuel", v.Path("fuel").Set(fuel - e.rng.Float64()/10)
}

func changeStatus(e editor, d *automerge.Doc) (string, error) {
	name, v := e.vehicle(d)
	status := pick(e.rng, statuses)
	return name + " is " + status, v.Path("status").Set(status)
}

func repairVehicle(e editor, d *automerge.Doc) (string, error) {
	name, v := e.vehicle(d)
	faults, err := listAt(v.Path("faults"))
	if err != nil {
		return "", err
	}
	if faults.Len() > 2 {
		return name + ": fault repaired", faults.Delete(e.rng.IntN(faults.Len()))
	}
	return name + ": fault found", faults.Append(map[string]any{"part": pick(e.rng, []string{"brakes", "radio", "axle"}), "grave": e.rng.IntN(4) == 0})
}

// listAt returns the list itself. The one that Path.List returns makes itself when
// written to, and takes the program down when something is deleted from it.
func listAt(p *automerge.Path) (*automerge.List, error) {
	v, err := p.Get()
	if err != nil {
		return nil, err
	}
	if v.Kind() != automerge.KindList {
		return nil, fmt.Errorf("%v, not a list", v.Kind())
	}
	return v.List(), nil
}

func beginSupplies(e editor, d *automerge.Doc) error {
	if err := d.Path("delivered").Set(automerge.NewCounter(0)); err != nil {
		return err
	}
	stock := map[string]any{}
	for _, g := range goods {
		stock[g] = automerge.NewCounter(int64(20 + e.rng.IntN(50)))
	}
	if err := d.Path("stock").Set(stock); err != nil {
		return err
	}
	return d.Path("orders").Set([]any{})
}

func deliver(e editor, d *automerge.Doc) (string, error) {
	what, n := pick(e.rng, goods), int64(1+e.rng.IntN(9))
	if err := d.Path("stock", what).Counter().Inc(n); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %s delivered", n, what), d.Path("delivered").Counter().Inc(n)
}

func use(e editor, d *automerge.Doc) (string, error) {
	what := pick(e.rng, goods)
	return what + " used", d.Path("stock", what).Counter().Inc(-int64(1 + e.rng.IntN(5)))
}

func orderGoods(e editor, d *automerge.Doc) (string, error) {
	orders, err := listAt(d.Path("orders"))
	if err != nil {
		return "", err
	}
	what := pick(e.rng, goods)
	order := map[string]any{"what": what, "count": 1 + e.rng.IntN(20), "by": time.Now().Add(time.Duration(e.rng.IntN(72)) * time.Hour)}
	return what + " ordered", orders.Insert(e.rng.IntN(orders.Len()+1), order)
}

func dropOrder(e editor, d *automerge.Doc) (string, error) {
	orders, err := listAt(d.Path("orders"))
	if err != nil {
		return "", err
	}
	if orders.Len() == 0 {
		return orderGoods(e, d)
	}
	return "order closed", orders.Delete(e.rng.IntN(orders.Len()))
}

func beginLog(e editor, d *automerge.Doc) error {
	if err := d.Path("entries").Set(automerge.NewCounter(0)); err != nil {
		return err
	}
	return d.Path("text").Set(automerge.NewText("Log of the day\n"))
}

func writeLog(e editor, d *automerge.Doc) (string, error) {
	phrase := pick(e.rng, phrases)
	if err := d.Path("text").Text().Append(time.Now().UTC().Format("15:04:05") + " " + phrase + "\n"); err != nil {
		return "", err
	}
	return phrase, d.Path("entries").Counter().Inc(1)
}

func correctLog(e editor, d *automerge.Doc) (string, error) {
	text := d.Path("text").Text()
	if text.Len() > 2000 { // the oldest lines go
		return "log shortened", text.Delete(0, 1000)
	}
	return "log corrected", text.Splice(e.rng.IntN(text.Len()), 1, pick(e.rng, []string{"", "-", "+", "(?)"}))
}

func beginReadiness(e editor, d *automerge.Doc) error {
	return d.Path("units").Set(map[string]any{
		"first":  map[string]any{"ready": true, "strength": 28, "needs": []any{}},
		"second": map[string]any{"ready": false, "strength": 31, "needs": []any{"tyres"}},
	})
}

func report(e editor, d *automerge.Doc) (string, error) {
	unit := pick(e.rng, []string{"first", "second"})
	u := d.Path("units", unit)
	ready := e.rng.IntN(3) > 0
	if err := u.Path("ready").Set(ready); err != nil {
		return "", err
	}
	if ready {
		if err := u.Path("needs").Set([]any{}); err != nil {
			return "", err
		}
	} else if err := u.Path("needs").List().Append(pick(e.rng, goods)); err != nil {
		return "", err
	}
	return unit + " reports", u.Path("strength").Set(25 + e.rng.IntN(10))
}

func comment(e editor, d *automerge.Doc) (string, error) {
	unit := pick(e.rng, []string{"first", "second"})
	c := d.Path("units", unit, "comment")
	if v, err := c.Get(); err == nil && v.Kind() == automerge.KindStr && e.rng.IntN(2) == 0 {
		return unit + ": comment removed", c.Delete()
	}
	return unit + " comments", c.Set(pick(e.rng, phrases))
}
