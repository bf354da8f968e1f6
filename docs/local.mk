# Man pages: dist_man_MANS += docs/man/ogelctl.1
# Texts:     dist_doc_DATA += docs/architecture.md
