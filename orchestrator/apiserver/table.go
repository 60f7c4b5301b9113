package apiserver

import (
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
)

// table shows entries as kubectl get prints them.
func (c *call) table(entries []*registry.Entry, columns bool) (*metav1.Table, error) {
	include := metav1.IncludeObjectPolicy(c.query.Get(includeObjectParam))
	switch include {
	case "":
		include = metav1.IncludeMetadata
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf(`unrecognized includeObject value: %q`, include))
	}
	t := &metav1.Table{TypeMeta: metav1.TypeMeta{Kind: asTable, APIVersion: "meta.k8s.io/v1"}, Rows: make([]metav1.TableRow, 0, len(entries))}
	t.ColumnDefinitions = []metav1.TableColumnDefinition{}
	if columns {
		t.ColumnDefinitions = c.columns()
	}
	now := c.clock.Now()
	for _, entry := range entries {
		row := metav1.TableRow{Cells: c.cells(entry, now)}
		switch include {
		case metav1.IncludeObject:
			row.Object = runtime.RawExtension{Raw: entry.JSON()}
		case metav1.IncludeMetadata:
			raw, err := marshalPartial(entry)
			if err != nil {
				return nil, fmt.Errorf("encode metadata: %w", err)
			}
			row.Object = runtime.RawExtension{Raw: raw}
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// columns are the kind's, or a name and an age for a kind that names none.
func (c *call) columns() []metav1.TableColumnDefinition {
	if len(c.kind.Columns) > 0 {
		return c.kind.Columns
	}
	return []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: "Name must be unique within a namespace."},
		{Name: "Created At", Type: "date", Description: "When the object was created."},
	}
}

func (c *call) cells(entry *registry.Entry, now time.Time) []any {
	obj := entry.Object()
	if c.kind.Row == nil || len(c.kind.Columns) == 0 {
		return []any{obj.GetName(), obj.GetCreationTimestamp().UTC().Format(time.RFC3339)}
	}
	cells := c.kind.Row(obj)
	for i, cell := range cells {
		cells[i] = api.RenderCell(cell, now)
	}
	return cells
}
