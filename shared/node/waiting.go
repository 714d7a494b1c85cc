package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
)

// Application is what a node goes by that waits for an administrator.
type Application struct {
	ID        string    `json:"enrollment_id"`
	Secret    string    `json:"poll_secret"` // that it asks with
	ExpiresAt time.Time `json:"expires_at"`

	after time.Duration // when to ask; 0: not said
}

// answered is what became of an application.
type answered struct {
	State       enrollment.Standing `json:"state"`
	Note        string              `json:"note"`
	Certificate *Certificate        `json:"certificate"`
}

// usualPoll is how often is asked where the gateway does not say.
const usualPoll = 10 * time.Second

// await asks what became of an application until somebody has decided. What it was
// told is in the folder: it may end and go on later.
func (n *Node) await(ctx context.Context, a Application) (Certificate, error) {
	n.say("waiting for an administrator to decide on enrollment %q", a.ID)
	pause := firstPause
	for {
		wait := max(min(a.after, maxPause), usualPoll)
		out, after, err := n.Client.Poll(ctx, a)
		switch p, no := errors.AsType[*Problem](err); {
		case ctx.Err() != nil:
			return Certificate{}, ctx.Err()
		case no && p.Status == http.StatusUnauthorized, err == nil && out.State == enrollment.Lapsed:
			// Forgotten there, so it is forgotten here: the next time it applies anew.
			return Certificate{}, errors.Join(fmt.Errorf("enrollment %q is not known any more", a.ID), n.Folder.Forget())
		case final(err):
			return Certificate{}, errors.Join(err, n.Folder.Forget())
		case err != nil:
			wait, pause = pause, min(2*pause, maxPause)
			n.say("%v; asking again", err)
		case out.State == enrollment.Accepted && out.Certificate != nil:
			if err := n.take(*out.Certificate); err != nil {
				return Certificate{}, err
			}
			return *out.Certificate, n.Folder.Forget()
		case out.State == enrollment.Rejected:
			return Certificate{}, errors.Join(fmt.Errorf("%w: an administrator has denied the enrollment: %q", ErrRefused, out.Note), n.Folder.Forget())
		case out.State != enrollment.Waiting:
			return Certificate{}, fmt.Errorf("the gateway says that the enrollment is %q", out.State)
		default:
			a.after, pause = after, firstPause
		}
		if err := n.Wait(ctx, wait+n.jittered(wait/4)); err != nil {
			return Certificate{}, err
		}
	}
}
