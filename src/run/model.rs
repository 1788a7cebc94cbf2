//! A trained model as a file: weights under PyTorch's names and in its layout, and in the metadata what is
//! needed to use them: net, image shape, class names, normalisation.

use std::path::Path;

use crate::data::Normalisation;
use crate::error::{Error, Result};
use crate::nn::{Architecture, Net, Parameter};
use crate::tensor::{DType, Entry, TensorFile, write_tensors};

/// Value of the metadata key `format`.
const FORMAT: &str = "tessera-model-1";

/// Shared layers and the main task's decoder.
pub struct Model {
    pub net: Net,
    pub classes: Vec<String>,
    pub normalise: Normalisation,
    pub parameters: Vec<(Parameter, Vec<f32>)>,
}

/// Parameters with values in file order, for entries to borrow from.
pub(super) struct Stored {
    name: String,
    shape: crate::tensor::Shape,
    values: Vec<f32>,
}

impl Stored {
    /// `values` of a parameter, or of a buffer of its shape that is stored as `name`.
    pub fn new(name: String, parameter: &Parameter, values: &[f32]) -> Self {
        Stored { name, shape: parameter.file_shape(), values: parameter.to_file(values) }
    }

    pub fn entry(&self) -> Entry<'_> {
        Entry::new(self.name.clone(), DType::F32, self.shape, &self.values)
    }
}

/// Values of a parameter, or of a buffer of its shape that is stored as `name`, in the layout used here.
pub(super) fn read_parameter(file: &TensorFile, name: &str, parameter: &Parameter) -> Result<Vec<f32>> {
    let (found, expected) = (file.shape(name)?, parameter.file_shape());
    if found != expected {
        return Err(file.wrong(name, format!("shape {expected}"), found.to_string()));
    }
    Ok(parameter.from_file(&file.to_f32(name)?))
}

/// Writes a model with all its decoders.
pub fn write(
    path: &Path,
    net: &Net,
    classes: &[String],
    normalise: &Normalisation,
    parameters: &[(Parameter, Vec<f32>)],
    more: &[(&str, String)],
) -> Result<()> {
    let json = |e: serde_json::Error| Error::format(path, "metadata", "text", e.to_string());
    let mut metadata = vec![
        ("format", FORMAT.to_string()),
        ("net", net.architecture.name.to_string()),
        ("image_shape", serde_json::to_string(&net.input).map_err(json)?),
        ("classes", serde_json::to_string(classes).map_err(json)?),
        ("normalise", serde_json::to_string(normalise).map_err(json)?),
    ];
    metadata.extend(more.iter().cloned());
    let stored: Vec<Stored> = parameters.iter().map(|(p, v)| Stored::new(p.name.clone(), p, v)).collect();
    write_tensors(path, &stored.iter().map(Stored::entry).collect::<Vec<_>>(), &metadata)
}

impl Model {
    /// Opens the weights of a run.
    pub fn open(path: &Path) -> Result<Model> {
        let file = TensorFile::open(path)?;
        let key = |key: &str| {
            let place = format!("metadata key '{key}'");
            file.metadata(key)
                .ok_or_else(|| Error::format(path, place, "a value", "no such key; is this a trained model?"))
        };
        let format = key("format")?;
        if format != FORMAT {
            return Err(Error::format(path, "metadata key 'format'", FORMAT, format));
        }
        fn parse<T: serde::de::DeserializeOwned>(path: &Path, key: &str, text: &str) -> Result<T> {
            let place = format!("metadata key '{key}'");
            serde_json::from_str(text).map_err(|e| Error::format(path, place, "valid JSON", e.to_string()))
        }
        let input: [usize; 3] = parse(path, "image_shape", key("image_shape")?)?;
        let classes: Vec<String> = parse(path, "classes", key("classes")?)?;
        let normalise: Normalisation = parse(path, "normalise", key("normalise")?)?;
        let channels = input[2];
        let fits = |v: &[f32]| v.len() == channels && v.iter().all(|x| x.is_finite());
        if !fits(&normalise.mean) || !fits(&normalise.sd) || normalise.sd.contains(&0.0) {
            let expected = format!("{channels} finite means and deviations");
            return Err(Error::format(path, "metadata key 'normalise'", expected, format!("{normalise:?}")));
        }
        let net = Net::new(Architecture::named(key("net")?)?, input)?;
        let parameters = net.parameters().into_iter().chain(net.decoder(0, classes.len()));
        let read = |p: Parameter| Ok((read_parameter(&file, &p.name, &p)?, p)).map(|(v, p)| (p, v));
        let parameters = parameters.map(read).collect::<Result<_>>()?;
        Ok(Model { net, classes, normalise, parameters })
    }
}
