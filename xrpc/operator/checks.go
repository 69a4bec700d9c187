package operator

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/xrpc/doctor"
)

// checksView is the page of what a doctor has found.
type checksView struct {
	*view
	Found doctor.Report
	// Shown are the findings, worst first.
	Shown []doctor.Finding
}

// checkTime bounds how long the page waits for new findings.
const checkTime = 90 * time.Second

func (p *Pages) showChecks(c *call) error {
	v := &checksView{view: p.view(c, "checks.title"), Found: p.cfg.Doctor.Last()}
	for _, level := range []doctor.Level{doctor.Problem, doctor.Warning, doctor.Skipped, doctor.OK} {
		for _, f := range v.Found.Findings {
			if f.Level == level {
				v.Shown = append(v.Shown, f)
			}
		}
	}
	return c.Show("checks", v)
}

// checkNow looks again, and shows what was found.
func (p *Pages) checkNow(c *call) error {
	ctx, cancel := context.WithTimeout(c.Context(), checkTime)
	defer cancel()
	if _, err := p.cfg.Doctor.Now(ctx); err != nil {
		return err
	}
	return c.Redirect(pathChecks)
}

// LevelText returns the name of a level.
func (v *view) LevelText(l doctor.Level) string { return v.T("level." + string(l)) }

// LevelClass returns the CSS class of a level's tag.
func (v *view) LevelClass(l doctor.Level) string {
	return map[doctor.Level]string{doctor.OK: "good", doctor.Warning: "warn", doctor.Problem: "danger"}[l]
}
