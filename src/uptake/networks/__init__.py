"""Networks: tensors in, tensors out. They know nothing of patients, files or millimetres."""
